-- The app of the ledger test: one source, and every kind of exit that an event may leave by.

CREATE TABLE entries (
  id STRING,
  account STRING,
  branch STRING,
  seq BIGINT,          -- counts the account's events from 1
  amount DECIMAL(12, 2),
  weight DOUBLE,
  quota STRING,        -- a number, or a word that a statement must reject
  digest STRING,       -- of the other fields, made by the producer
  ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '3' HOUR
) WITH ('connector' = 'penstock', 'key' = 'account', 'partitions' = '2', 'dedupe' = 'id');

-- Filtered: an event is here if its amount is large.
CREATE TABLE `large` WITH ('connector' = 'penstock', 'key' = 'account')
AS SELECT id, account, seq, amount, digest FROM entries WHERE amount >= 500;

-- Every event is here, or among the rejected ones when its quota is no number.
CREATE TABLE quotas WITH ('connector' = 'penstock', 'key' = 'account')
AS SELECT id, account, seq, CAST(quota AS BIGINT) AS quota, digest FROM entries;

-- Running: the last event of each account.
CREATE TABLE latest (
  account STRING, id STRING, seq BIGINT, amount DECIMAL(12, 2), digest STRING,
  PRIMARY KEY (account) NOT ENFORCED
) WITH ('connector' = 'penstock');

INSERT INTO latest SELECT account, id, seq, amount, digest FROM entries;

-- Windows by the partition key, with early rows.
CREATE TABLE hourly (
  account STRING, window_start TIMESTAMP(3), events BIGINT, amount DECIMAL(38, 2), weight DOUBLE,
  first_seq BIGINT, last_seq BIGINT,
  PRIMARY KEY (account, window_start) NOT ENFORCED
) WITH ('connector' = 'penstock', 'emit' = 'early');

INSERT INTO hourly
SELECT account, window_start, COUNT(*), SUM(amount), SUM(weight), MIN(seq), MAX(seq)
FROM TABLE(TUMBLE(TABLE entries, DESCRIPTOR(ts), INTERVAL '1' HOUR))
GROUP BY account, window_start, window_end;

-- Windows by another column than the partition key.
CREATE TABLE branches (
  branch STRING, window_start TIMESTAMP(3), events BIGINT, amount DECIMAL(38, 2), least DECIMAL(12, 2),
  PRIMARY KEY (branch, window_start) NOT ENFORCED
) WITH ('connector' = 'penstock', 'emit' = 'early');

INSERT INTO branches
SELECT branch, window_start, COUNT(*), SUM(amount), MIN(amount)
FROM TABLE(TUMBLE(TABLE entries, DESCRIPTOR(ts), INTERVAL '1' HOUR))
GROUP BY branch, window_start, window_end;
