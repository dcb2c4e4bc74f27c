-- Counters of fixed windows alone, without what the other kinds need. The layout is that of `counters`.
local kind = aligned()

-- What is under a name; nil: nothing, or a counter of another shape.
local function read_fixed(raw, window)
  local shape, length, mark, held = decode(HEAD, raw)
  return shape == FIXED and length == window and kind.read(raw) or nil, mark, held
end

local function save_fixed(name, window, mark, held, state)
  local body, spent_at = kind.write(nil, state)
  local head = encode(HEAD, FIXED, window, mark, held)
  call('SET', name, head .. body, 'PX', max(0, spent_at - now) + GRACE)
end
