-- Count requests that nobody settles, in fixed windows: many in one call, one after the other, each all of
-- its holds or none.
-- ARGV  1 now  2 a name of this call alone  3 ms that it can be taken back (`take_back`); 0: it cannot
--       4 how many names may be in this Redis
--       5 counters (msgpack), of each: key, window, quota of the hold that named it first
--       6 requests (msgpack), of each: how many holds, and of each of them: the place of its counter, quota,
--         amount, 1 if it refuses nothing
-- Answers a status; what became of each request, a byte each; of each counter the ms until its window ends,
-- and what running requests hold of it; of each hold what of its counter was used before the request.
-- A counter that is not there yet needs room, as in `guards/room`.
local counted, asked = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6])
local marker = shard .. 'x:' .. ARGV[2]
local names = {marker}
for at = 1, #counted, 3 do
  names[#names + 1] = shard .. 'c:' .. counted[at]
end
local found = call('MGET', unpack(names))
if found[1] then -- nobody waits for it any more
  return {CANCELLED}
end

local states, marks, helds, answer, starts = {}, {}, {}, {RESERVED, ''}, {}
for i = 1, #names - 1 do
  local raw, window, state = found[i + 1], counted[3 * i - 1], nil
  marks[i], helds[i] = 0, 0
  if raw then
    state, marks[i], helds[i] = read_fixed(raw, window)
  end
  state = kind.view({[KIND] = FIXED, [WINDOW] = window, [QUOTA] = counted[3 * i]}, state)
  states[i], starts[i] = state, encode('<d', state.start)
  answer[#answer + 1] = max(0, state.finish - now)
  answer[#answer + 1] = marks[i] == state.start and helds[i] or 0
end

local size, most, charged, verdicts = call('DBSIZE'), tonumber(ARGV[4]), {}, {}
local at, last, used = 1, #asked, #answer
while at <= last do
  local from, to, verdict = at + 1, at + 4 * asked[at], RESERVED
  for hold = from, to, 4 do
    local i, amount = asked[hold], asked[hold + 2]
    local before = states[i].used
    used = used + 1
    answer[used] = before
    if size * 2 >= most and not found[i + 1] then
      verdict = NO_ROOM
    elseif verdict == RESERVED and amount > 0 and asked[hold + 3] == 0 and amount > asked[hold + 1] - before then
      verdict = DENIED
    end
  end
  if verdict == RESERVED then
    for hold = from, to, 4 do
      local i = asked[hold]
      if not found[i + 1] then
        found[i + 1], size = true, size + 1
      end
      kind.charge(states[i], min(MAX, asked[hold + 2]))
      charged[i] = true
    end
  end
  verdicts[#verdicts + 1] = string.char(verdict)
  at = to + 1
end

answer[2] = table.concat(verdicts)
if next(charged) then
  for i in pairs(charged) do
    save_fixed(names[i + 1], counted[3 * i - 1], marks[i], helds[i], states[i])
  end
  local kept = tonumber(ARGV[3])
  if kept > 0 then
    call('SET', marker, answer[2] .. table.concat(starts), 'PX', kept)
  end
end
return answer
