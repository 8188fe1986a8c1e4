-- Log to the file system: every bid with the day and the minute of its partition.
CREATE TABLE answers (
  auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra STRING, dt STRING, hm STRING
) WITH ({sink});
INSERT INTO answers
SELECT auction, bidder, price, `dateTime`, extra, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS dt,
  DATE_FORMAT(`dateTime`, 'HH:mm') AS hm
FROM bid;
