-- Average price for a category: the mean of the highest bids of its auctions. An aggregate of an aggregate of a join.
SET 'table.exec.state.ttl' = '1 d';
CREATE TABLE answers (id BIGINT, final BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ({sink});
INSERT INTO answers
SELECT Q.category AS id, AVG(Q.final) AS final
FROM (
  SELECT MAX(B.price) AS final, A.category AS category
  FROM auction AS A JOIN bid AS B ON A.id = B.auction
  WHERE B.`dateTime` BETWEEN A.`dateTime` AND A.expires
  GROUP BY A.id, A.category
) Q
GROUP BY Q.category;
