-- Before anything is done: a counter that is not there yet needs room. Clients make up addresses and headers,
-- so what is nobody's alone gets the first half of it only. Nothing is ever dropped to make room.
-- ARGV  12 how many names may be in this Redis
do
  local names, most = call('DBSIZE'), tonumber(ARGV[12])
  if names * 2 >= most then
    for _, hold in ipairs(cmsgpack.unpack(ARGV[6])) do
      local name = shard .. (hold[KIND] == CONCURRENCY and 'l:' or 'c:') .. hold[KEY]
      if (hold[OWNER] == '' or names >= most) and call('EXISTS', name) == 0 then
        return {NO_ROOM, 0}
      end
    end
  end
end
