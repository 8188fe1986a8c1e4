-- expect: 2:14 no_connector
CREATE TABLE o (a INT);
