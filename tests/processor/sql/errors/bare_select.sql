-- expect: 2:1 no_target
SELECT symbol FROM trades;
