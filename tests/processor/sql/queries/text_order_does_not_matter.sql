CREATE TABLE last_one WITH ('connector' = 'penstock') AS SELECT s FROM middle;
CREATE TABLE middle WITH ('connector' = 'penstock') AS SELECT s FROM first_one;
CREATE VIEW first_one AS SELECT symbol AS s FROM trades;
