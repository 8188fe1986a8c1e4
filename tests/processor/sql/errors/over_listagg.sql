-- expect: 2:58 unsupported
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT LISTAGG(symbol) OVER (ORDER BY ts) AS x FROM trades;
