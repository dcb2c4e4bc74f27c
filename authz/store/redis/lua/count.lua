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

-- Of a counter that is in its window only `used` is read and written; the others are `fresh`, and written whole.
local used, starts, fresh, answer, kind = {}, {}, {}, {RESERVED, ''}, nil
for i = 1, #names - 1 do
  local raw, window = found[i + 1], counted[3 * i - 1]
  local shape, length, mark, held, start, finish, _, amount
  if raw and #raw == FIXED_SIZE then
    shape, length, mark, held, start, finish, _, amount = decode(FIXED_WHOLE, raw)
  end
  if shape ~= FIXED or length ~= window or now < start or now >= finish then
    local state
    kind = kind or aligned()
    state, mark, held = read_fixed(kind, raw, window)
    state = kind.view({[KIND] = FIXED, [WINDOW] = window, [QUOTA] = counted[3 * i]}, state)
    start, finish, amount = state.start, state.finish, state.used
    fresh[i] = {state = state, mark = mark, held = held}
  end
  used[i], starts[i] = amount, start
  answer[2 * i + 1] = max(0, finish - now)
  answer[2 * i + 2] = mark == start and held or 0
end

local size, most, charged, verdicts = call('DBSIZE'), tonumber(ARGV[4]), {}, {}
local at, last, told, place = 1, #asked, #answer, 0
while at <= last do
  local from, to, verdict = at + 1, at + 4 * asked[at], RESERVED
  for hold = from, to, 4 do
    local i, amount = asked[hold], asked[hold + 2]
    local before = used[i]
    told = told + 1
    answer[told] = before
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
      used[i] = min(MAX, used[i] + asked[hold + 2])
      charged[i] = true
    end
  end
  place = place + 1
  verdicts[place] = verdict
  at = to + 1
end

answer[2] = string.char(unpack(verdicts))
if next(charged) then
  for i in pairs(charged) do
    local begun = fresh[i]
    if begun then
      begun.state.used = used[i]
      save_fixed(kind, names[i + 1], counted[3 * i - 1], begun.mark, begun.held, begun.state)
    else
      call('SETRANGE', names[i + 1], USED_FROM, encode('<d', used[i]))
    end
  end
  if ARGV[3] ~= '0' then
    call('SET', marker, answer[2] .. cmsgpack.pack(starts), 'PX', ARGV[3])
  end
end
return answer
