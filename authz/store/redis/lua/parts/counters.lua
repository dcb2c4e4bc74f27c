-- Counters, each one string: its shape, what running requests hold of it, and the state of its kind.
-- `held` counts for one window instance, the `mark` (0 where windows roll), and is told, never decided on.

-- The counters and slots of these holds, and what else is under the names that follow, in one call.
local function load(holds, ...)
  local names, counters = {...}, {}
  local others = #names
  for i, hold in ipairs(holds) do
    local name = shard .. (hold[KIND] == CONCURRENCY and 'l:' or 'c:') .. hold[KEY]
    names[others + i] = name
    counters[i] = {name = name, mark = 0, held = 0}
  end
  local found = #names > 0 and call('MGET', unpack(names)) or {}
  for i, hold in ipairs(holds) do
    local counter, raw = counters[i], found[others + i]
    if raw then -- never so for slots: they are no string
      local kind, window
      kind, window, counter.mark, counter.held = decode(HEAD, raw)
      counter.exists = true
      if kind == hold[KIND] and window == hold[WINDOW] then -- else another counter, which begins empty
        counter.state = kind_of(hold).read(raw)
      end
    end
  end
  return counters, unpack(found, 1, others)
end

local function save(hold, counter)
  local head = encode(HEAD, hold[KIND], hold[WINDOW], counter.mark, counter.held)
  local body, spent_at = kind_of(hold).write(hold, counter.state)
  call('SET', counter.name, head .. body, 'PX', max(0, spent_at - now) + GRACE)
end
