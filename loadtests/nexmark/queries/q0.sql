-- Pass through: what reading and writing cost.
CREATE TABLE result (auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra STRING) WITH ({sink});
INSERT INTO result SELECT auction, bidder, price, `dateTime`, extra FROM bid;
