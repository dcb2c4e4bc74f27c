-- Giving up what a running request holds, which is told of its counters.

-- The window instance that a hold was charged to.
local function mark_of_label(hold, label)
  return (hold[KIND] == FIXED or hold[KIND] == CALENDAR) and label[1] or 0
end

-- True if the counter is another now.
local function give_up(hold, counter, label)
  if hold[UNIT] == 'requests' or counter.held == 0 or mark_of_label(hold, label) ~= counter.mark then
    return false
  end
  counter.held = max(0, counter.held - hold[AMOUNT])
  return true
end

-- Only what is held, of a counter that may have another shape by now.
local function save_held(counter)
  if counter.exists then
    call('SETRANGE', counter.name, HELD_FROM, encode('<dd', counter.mark, counter.held))
  end
end
