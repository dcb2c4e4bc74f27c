-- What a settlement needs to know first.
-- ARGV  1 now  2 id  3 gateway
-- Answers why it cannot be settled; else REMEMBERED, when it was made, 1 if it has expired, its facts.
local record = recall(ARGV[2], call('GET', name_of(ARGV[2])))
local outcome = objection(record, ARGV[3])
if outcome then
  return {outcome}
end
return {REMEMBERED, record.created, record.late and 1 or 0, record.facts}
