-- expect: 2:13 unknown_table
INSERT INTO sink SELECT symbol FROM trades;
