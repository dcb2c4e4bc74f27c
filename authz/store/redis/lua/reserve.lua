-- Make every hold of a request, or none.
-- ARGV  1 now  2 id  3 attempt (a name of this call alone)  4 gateway  5 ttl  6 holds (msgpack)  7 facts
--       8 "1": remember it whatever it holds, "2": or refuse it  9 other shards that it lies in
--       10 reservations that may be open  11 late ones that are remembered
local id, attempt, gateway, ttl = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local packed, facts = ARGV[6], ARGV[7]
local holds = cmsgpack.unpack(packed)
local _, entries = sweep(FEW, tonumber(ARGV[11]))
local counters, tombstone, raw = load(holds, shard .. 'x:' .. attempt, name_of(id))
if tombstone then -- nobody waits for it any more
  return {CANCELLED, entries}
end
local trouble = view_all(holds, counters)
if trouble then
  return {trouble, entries}
end
local before, name = recall(id, raw), id
if before then
  if is_retry(before, gateway, now) then
    keep_for_both(before)
    return admission(REPLAYED, holds, counters, {}, entries)
  end
  name = id .. '~' .. attempt -- another attempt, of which nobody is told
end

local denied, over = stage(holds, counters)
if #denied > 0 then
  return refusal(holds, counters, denied, entries)
end
local has_slots, phase = false, (facts ~= '' or ARGV[8] ~= '0') and OPEN or BRIEF
for _, hold in ipairs(holds) do
  hold[AMOUNT] = min(MAX, hold[AMOUNT]) -- only a limit in a trial admits more than a store keeps
  has_slots = has_slots or hold[KIND] == CONCURRENCY
  phase = hold[UNIT] == 'requests' and phase or OPEN
end
local full = call('ZCARD', open_ids) >= tonumber(ARGV[10])
if full and (has_slots or ARGV[8] == '2') then
  return {FULL, entries}
end
local kept = has_slots or not (full or (facts ~= '' and ttl == 0))
local remembered = kept and (phase == OPEN or ttl > 0)

local labels = {}
for i, hold in ipairs(holds) do
  local counter, amount = counters[i], hold[AMOUNT]
  if hold[KIND] == CONCURRENCY then
    labels[i] = encode(LABEL, 0, 0, 0)
  else
    local kind = kind_of(hold)
    labels[i] = encode(LABEL, kind.charge(counter.state, amount))
    if remembered and amount > 0 and hold[UNIT] ~= 'requests' then
      local _, _, mark = kind.stand(hold, counter.state)
      if counter.held == 0 or mark > counter.mark then
        counter.mark, counter.held = mark, amount
      elseif mark == counter.mark then
        counter.held = counter.held + amount
      end
    end
    save(hold, counter)
  end
end
local record = {
  id = name, phase = phase, created = now, deadline = now + ttl, gateway = gateway, attempt = attempt,
  elsewhere = ARGV[9], packed = packed, labels = table.concat(labels), facts = facts,
}
if remembered then
  remember(record)
  for i, hold in ipairs(holds) do
    if hold[KIND] == CONCURRENCY and hold[AMOUNT] > 0 and ttl > 0 then
      take_slot(counters[i].name, name, record.deadline)
      counters[i].running = counters[i].running + 1
    end
  end
elseif not kept then -- nobody settles it: it is over at once
  record.id = id .. '~' .. attempt
  close(record, now, '', true, false)
end
return admission(RESERVED, holds, counters, over, entries)
