-- Take back what `count` counted for requests that nobody waited for; if it has not come yet, it does nothing
-- when it comes. Of each request once, however often this runs.
-- ARGV  1 now  2 name of the call  3 ms that it may still come  4 counters  5 requests, both as it was told
--       6 places of those that are taken back (msgpack), from 1; '': all
-- What a call cannot be taken back by any more (its argument 3) stays charged.
local marker = shard .. 'x:' .. ARGV[2]
local known = call('GET', marker)
if not known or known == '' then
  call('SET', marker, '', 'PX', tonumber(ARGV[3]))
  return 0
end
local counted, asked = cmsgpack.unpack(ARGV[4]), cmsgpack.unpack(ARGV[5])
local wanted
if ARGV[6] ~= '' then
  wanted = {}
  for _, place in ipairs(cmsgpack.unpack(ARGV[6])) do
    wanted[place] = true
  end
end

local at, place, last, given, verdicts = 1, 0, #asked, {}, {}
while at <= last do
  local to = at + 4 * asked[at]
  place = place + 1
  verdicts[place] = cut(known, place, place)
  if verdicts[place] == string.char(RESERVED) and (not wanted or wanted[place]) then
    verdicts[place] = string.char(CANCELLED)
    for hold = at + 1, to, 4 do
      local i = asked[hold]
      given[i] = min(MAX, (given[i] or 0) + asked[hold + 2])
    end
  end
  at = to + 1
end
if not next(given) then
  return 0
end

local kind = settle_aligned(aligned())
local starts = cmsgpack.unpack(cut(known, place + 1))
-- The first write takes no memory, so that a server that is full lets all of it through.
call('SETRANGE', marker, 0, table.concat(verdicts))
for i, amount in pairs(given) do
  local name, window = shard .. 'c:' .. counted[3 * i - 2], counted[3 * i - 1]
  local state, mark, held = read_fixed(kind, call('GET', name), window)
  if state and kind.refund(nil, state, {starts[i]}, amount) then
    save_fixed(kind, name, window, mark, held, state)
  end
end
return 1
