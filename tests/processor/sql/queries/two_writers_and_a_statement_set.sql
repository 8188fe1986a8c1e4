CREATE TABLE both (symbol STRING, price DOUBLE) WITH ('connector' = 'penstock');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO both SELECT symbol, price FROM trades;
  INSERT INTO both SELECT symbol, bid FROM quotes;
END;
