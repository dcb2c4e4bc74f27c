-- Let reservations begin that were made of lots (authz/store/redis/allowance): what they hold is charged
-- already, as part of the lot, which holds so much less from now on.
-- ARGV  1 now  2 a name of this call alone, however often it comes  3 ms that it may still come
--       4 reservations that may be open  5 how many lots  then their ids
--       then for each reservation: which lot  id  gateway  ms since it was made  ttl  holds (msgpack)  facts
-- Answers the places of those whose lot is not known.
local marker = shard .. 'x:' .. ARGV[2]
local answered = call('GET', marker)
if answered then -- it came before, and was not answered in time
  return cmsgpack.unpack(answered)
end
local full = call('ZCARD', open_ids) >= tonumber(ARGV[4])
local lots, first, lost = {}, 6 + tonumber(ARGV[5]), {}
for place = 6, first - 1 do
  local lot = recall(ARGV[place], call('GET', name_of(ARGV[place])))
  if lot and lot.phase ~= SETTLED then
    lot.holds = holds_of(lot)
    lots[place - 5] = lot
  end
end

local function begin(lot, id, another, gateway, created, ttl, packed, facts)
  local before = recall(id, call('GET', name_of(id)))
  if is_retry(before, gateway, created) and before.created < created + REPLAY then
    return keep_for_both(before)
  end
  local phase = facts ~= '' and OPEN or BRIEF
  for i, hold in ipairs(cmsgpack.unpack(packed)) do
    lot.holds[i][AMOUNT] = max(0, lot.holds[i][AMOUNT] - min(MAX, hold[AMOUNT]))
    phase = hold[UNIT] == 'requests' and phase or OPEN
  end
  local kept = not (full or (facts ~= '' and ttl == 0))
  local record = {
    id = (before or not kept) and another or id, phase = phase, created = created,
    deadline = created + ttl, gateway = gateway, attempt = '', elsewhere = '', packed = packed,
    labels = lot.labels, facts = facts,
  }
  if not kept then -- nobody settles it: it is over at once
    close(record, created, '', true, false)
  elseif phase == OPEN or ttl > 0 then
    remember(record)
  end
end

for at = first, #ARGV, 7 do
  local lot = lots[tonumber(ARGV[at])]
  if lot then
    local age, ttl = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    local another = ARGV[at + 1] .. '~' .. ARGV[2] .. '.' .. at -- where the id is taken: a name of this alone
    begin(lot, ARGV[at + 1], another, ARGV[at + 2], now - age, ttl, ARGV[at + 5], ARGV[at + 6])
  else
    lost[#lost + 1] = (at - first) / 7
  end
end
for _, lot in pairs(lots) do
  lot.packed = cmsgpack.pack(lot.holds)
  remember(lot)
end
call('SET', marker, cmsgpack.pack(lost), 'PX', tonumber(ARGV[3]))
return lost
