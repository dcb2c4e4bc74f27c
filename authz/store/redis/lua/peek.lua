-- What `reserve` would answer. Charges nothing.
-- ARGV  1 now  2 holds (msgpack)  3 late ones that are remembered
local holds = cmsgpack.unpack(ARGV[2])
local _, entries = sweep(FEW, tonumber(ARGV[3]))
local counters = load(holds)
local trouble = view_all(holds, counters)
if trouble then
  return {trouble, entries}
end
local denied, over = stage(holds, counters)
if #denied > 0 then
  return refusal(holds, counters, denied, entries)
end
for i, hold in ipairs(holds) do
  if hold[KIND] ~= CONCURRENCY then
    kind_of(hold).charge(counters[i].state, hold[AMOUNT])
  end
end
return admission(RESERVED, holds, counters, over, entries, true)
