-- What an answer used, read as it passes: nothing of it is held back or altered.

local USAGE = "authz.usage"
local LONGEST_LINE = 1048576 -- bytes of a stream's line; a longer one is not read
local MOST_TRIED = 16 -- objects named `usage`, from the end, in what may be the model's own JSON
local KEPT = 65536 -- bytes of the beginning and at least as many of the end that are kept of other answers

-- The names of all APIs. A field of an object within goes by both names.
local COUNTS = {
  prompt_tokens = "input",
  input_tokens = "input",
  completion_tokens = "output",
  output_tokens = "output",
  total_tokens = "total",
  cache_read_input_tokens = "cache_read",
  cache_creation_input_tokens = "cache_creation",
}
local DETAILS = {
  prompt_tokens_details = "cached_tokens",
  input_tokens_details = "cached_tokens",
  completion_tokens_details = "reasoning_tokens",
  output_tokens_details = "reasoning_tokens",
}
local DETAIL_COUNTS = { cached_tokens = "cached", reasoning_tokens = "reasoning" }

-- Envoy's objects do not outlive a wait for the next chunk, the handle does.
local function metadata_of(handle)
  return handle:streamInfo():dynamicMetadata()
end

-- Into the dynamic metadata. A later count of the same name replaces the earlier one.
local function count(metadata, name, text, value)
  local number = tonumber(match(text, "^-?%d[%d.eE+-]*", value))
  if number and number ~= math.huge and number ~= -math.huge then
    metadata:set(USAGE, name, number)
  elseif sub(text, value, value + 3) ~= "null" then
    metadata:set(USAGE, name, sub(text, value, value + 31)) -- authz says that it is no number
  end
end

local function usage(handle, text, at)
  local metadata = metadata_of(handle)
  at = members_of(text, at)
  while at do
    local name, value = next_member(text, at)
    if not name then
      return
    end
    if COUNTS[name] then
      count(metadata, COUNTS[name], text, value)
    elseif DETAILS[name] then
      local detail = member(text, value, DETAILS[name])
      if detail then
        count(metadata, DETAIL_COUNTS[DETAILS[name]], text, detail)
      end
    end
    at = after_member(text, value)
  end
end

-- Position of the value of the next `usage` that is an object. In a string its quotes would have backslashes.
local function next_usage(text, from)
  while true do
    local at, last = find(text, '"usage"', from, true)
    if not at then
      return nil
    end
    local value = match(text, "^%s*:%s*(){", last + 1)
    if value and byte(text, at - 1) ~= BACKSLASH then
      return value
    end
    from = last
  end
end

-- One event: `usage` (OpenAI, Anthropic's message_delta), `message.usage` (message_start), `response.usage`.
local function event(handle, text, at)
  at = members_of(text, at)
  while at do
    local name, value = next_member(text, at)
    if not name then
      return
    end
    if name == "usage" then
      usage(handle, text, value)
    elseif name == "message" or name == "response" then
      local within = member(text, value, "usage")
      if within then
        usage(handle, text, within)
      end
    end
    at = after_member(text, value)
  end
end

local function lines(handle, text)
  if not next_usage(text, 1) then
    return
  end
  for line in string.gmatch(text, "[^\n]+") do
    local json = match(line, "^data:()")
    if json and next_usage(line, json) then
      event(handle, line, json)
    end
  end
end

local function read_stream(handle)
  local parts, size = {}, 0 -- of a line that has not ended
  for chunk in handle:bodyChunks() do
    local text = chunk:getBytes(0, chunk:length())
    if size > 0 then
      local ending = find(text, "\n", 1, true)
      size = size + (ending or #text)
      if size <= LONGEST_LINE then
        parts[#parts + 1] = ending and sub(text, 1, ending) or text
      else
        parts = {}
      end
      if ending then
        lines(handle, table.concat(parts))
        parts, size, text = {}, 0, sub(text, ending + 1)
      else
        text = ""
      end
    end
    if text ~= "" then
      if byte(text, -1) ~= 10 then
        local rest = match(text, "\n()[^\n]*$") or 1
        parts, size = { sub(text, rest) }, #text - rest + 1
        text = sub(text, 1, rest - 1)
      end
      lines(handle, text)
    end
  end
  if size <= LONGEST_LINE then
    lines(handle, table.concat(parts))
  end
end

local function is_last_of_all(text, value)
  local at = after_value(text, value)
  while at do
    local comma = match(text, "^%s*,()", at)
    if not comma then
      return match(text, "^%s*}%s*$", at) ~= nil
    end
    local name, other = next_member(text, comma)
    at = name and after_value(text, other)
  end
  return false
end

-- Of a text that may lack its beginning: a `usage` behind which there are only members and the last brace.
local function usage_at_end(text)
  local found, value = {}, next_usage(text, 1)
  while value do
    found[#found + 1] = value
    value = next_usage(text, value)
  end
  for index = #found, math.max(1, #found - MOST_TRIED), -1 do
    if is_last_of_all(text, found[index]) then
      return found[index]
    end
  end
  return nil
end

local function read_whole(handle)
  local head, head_size = {}, 0
  local older, newer, newer_size, is_cut = {}, {}, 0, false
  for chunk in handle:bodyChunks() do
    local size, from = chunk:length(), 0
    if head_size < KEPT then
      from = math.min(size, KEPT - head_size)
      head[#head + 1] = chunk:getBytes(0, from)
      head_size = head_size + from
    end
    if size - from > KEPT then
      from, is_cut, older, newer, newer_size = size - KEPT, true, {}, {}, 0
    elseif newer_size >= KEPT then
      is_cut = is_cut or #older > 0
      older, newer, newer_size = newer, {}, 0
    end
    if size > from then
      newer[#newer + 1] = chunk:getBytes(from, size - from)
      newer_size = newer_size + size - from
    end
  end
  local first, last = table.concat(head), table.concat(older) .. table.concat(newer)
  if not is_cut then
    first, last = first .. last, first .. last
  end
  local value = usage_at_end(last)
  if value then
    usage(handle, last, value)
  elseif next_usage(first, 1) then
    value = member(first, 1, "usage")
    if value then
      usage(handle, first, value)
    end
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if is_refused_upstream(handle, headers) then
    hide_refusal(handle, headers)
    return
  end
  local kind = headers:get("content-type")
  if not kind or headers:get("content-encoding") then
    return
  end
  kind = string.lower(kind)
  if find(kind, "^text/event%-stream") then
    read_stream(handle)
  elseif find(kind, "^application/[%w.+-]*json") then
    read_whole(handle)
  end
end

