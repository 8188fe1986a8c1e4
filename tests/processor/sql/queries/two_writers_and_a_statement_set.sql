CREATE TABLE prices (symbol STRING, price DOUBLE) WITH ('connector' = 'penstock');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO prices SELECT symbol, price FROM trades;
  INSERT INTO prices SELECT symbol, bid FROM quotes;
END;
