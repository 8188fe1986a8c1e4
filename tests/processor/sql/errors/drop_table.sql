-- expect: 2:1 unsupported_statement
DROP TABLE trades;
