-- Whether it is the gateway's own retry of what was made before; `at` is when that came, which may be told late.
local function is_retry(before, gateway, at)
  local runs = before and (before.phase == BRIEF or before.phase == OPEN)
  return runs and before.gateway == gateway and at < min(before.deadline, before.created + REPLAY)
end

-- Two wait for it: if one gives up, the other may have been let through.
local function keep_for_both(before)
  before.attempt = ''
  remember(before)
end
