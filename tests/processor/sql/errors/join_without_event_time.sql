-- expect: 3:6 no_event_time
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT t.symbol FROM trades AS t
JOIN settings AS s ON t.symbol = s.name;
