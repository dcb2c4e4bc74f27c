-- Reading of JSON by positions, without copies; nil where the text ends too early or is no JSON.

local byte, find, match, sub = string.byte, string.find, string.match, string.sub
local QUOTE, BACKSLASH, OPEN_BRACE, OPEN_BRACKET = 34, 92, 123, 91

local function after_string(text, at)
  while true do
    at = find(text, '"', at + 1, true)
    if not at then
      return nil
    end
    local before = at - 1
    while byte(text, before) == BACKSLASH do
      before = before - 1
    end
    if (at - before) % 2 == 1 then
      return at + 1
    end
  end
end

local function after_value(text, at)
  local first = byte(text, at)
  if first == QUOTE then
    return after_string(text, at)
  elseif first ~= OPEN_BRACE and first ~= OPEN_BRACKET then
    return find(text, "[,}%]%s]", at)
  end
  local depth = 0
  repeat
    at = find(text, '["%[%]{}]', at)
    local found = at and byte(text, at)
    if not found then
      return nil
    elseif found == QUOTE then
      at = after_string(text, at)
      if not at then
        return nil
      end
    else
      depth = depth + ((found == OPEN_BRACE or found == OPEN_BRACKET) and 1 or -1)
      at = at + 1
    end
  until depth == 0
  return at
end

-- Name and value's position of a member, and what to go on with.
local function next_member(text, at)
  at = at and find(text, "%S", at)
  if not at or byte(text, at) ~= QUOTE then
    return nil
  end
  local after = after_string(text, at)
  local value = after and match(text, "^%s*:%s*()", after)
  return value and sub(text, at + 1, after - 2), value
end

local function members_of(text, at)
  return match(text, "^%s*{()", at)
end

local function after_member(text, value)
  local after = after_value(text, value)
  return after and match(text, "^%s*,()", after)
end

local function member(text, at, wanted)
  at = members_of(text, at)
  while at do
    local name, value = next_member(text, at)
    if name == wanted then
      return value
    end
    at = name and after_member(text, value)
  end
  return nil
end

