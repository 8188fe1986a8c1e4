CREATE TABLE answers WITH ({sink}) AS SELECT auction, bidder, price, `dateTime` FROM bid WHERE price > 50000000;
