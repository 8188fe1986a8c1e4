-- expect: 2:21 unsupported
CREATE TABLE o LIKE trades;
