-- expect: 4:7 column_count
SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol FROM trades
WHERE size IN (SELECT number, name FROM settings);
