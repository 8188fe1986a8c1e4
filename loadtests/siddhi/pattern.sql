CREATE TABLE answers WITH ({sink}) AS
SELECT auction, lower_price, other FROM bid MATCH_RECOGNIZE (
  PARTITION BY auction ORDER BY `dateTime`
  MEASURES F.price AS lower_price, S.price AS other
  ONE ROW PER MATCH AFTER MATCH SKIP TO NEXT ROW
  PATTERN (F X*? S) WITHIN INTERVAL '1' SECOND
  DEFINE F AS F.price > 90000000, S AS S.price > F.price
);
