-- Counters of fixed windows alone, without what the other kinds need. The layout is that of `counters`.

-- What is under a name, if anything: its state, nil where it has another shape; then the mark and what is held.
local function read_fixed(kind, raw, window)
  if not raw then
    return nil, 0, 0
  end
  local shape, length, mark, held = decode(HEAD, raw)
  return shape == FIXED and length == window and kind.read(raw) or nil, mark, held
end

local function save_fixed(kind, name, window, mark, held, state)
  local body, spent_at = kind.write(nil, state)
  local head = encode(HEAD, FIXED, window, mark, held)
  call('SET', name, head .. body, 'PX', max(0, spent_at - now) + GRACE)
end
