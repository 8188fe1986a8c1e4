-- expect: 3:58 unknown_column
CREATE TABLE given (id STRING, who ROW<name STRING>) WITH ('connector' = 'penstock');
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT who.nmae AS n FROM given;
