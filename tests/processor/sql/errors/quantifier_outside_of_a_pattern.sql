-- expect: 2:63 unexpected_character
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT size {2} AS size FROM trades;
