-- Find last bid: the last bid of each bidder on each auction.
SET 'table.exec.state.ttl' = '1 d';
CREATE TABLE answers (
  auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING,
  PRIMARY KEY (auction, bidder) NOT ENFORCED
) WITH ({sink});
INSERT INTO answers
SELECT auction, bidder, price, channel, url, `dateTime`, extra
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY `dateTime` DESC) AS rank_number FROM bid)
WHERE rank_number <= 1;
