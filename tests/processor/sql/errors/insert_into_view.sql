-- expect: 3:13 not_a_table
CREATE VIEW v AS SELECT symbol FROM trades;
INSERT INTO v SELECT symbol FROM trades;
