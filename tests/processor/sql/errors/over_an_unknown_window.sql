-- expect: 2:74 unknown_window
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT SUM(price) OVER v AS x FROM trades WINDOW w AS (ORDER BY ts);
