-- expect: 3:33 unknown_option
CREATE TABLE o (a INT)
WITH ('connector' = 'penstock', 'dedup' = 'a');
