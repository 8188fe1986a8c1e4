-- Selection: bids on some auctions.
CREATE TABLE answers (auction BIGINT, price BIGINT) WITH ({sink});
INSERT INTO answers SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0;
