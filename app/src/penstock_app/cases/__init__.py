"""`penstock test`: cases beside an app say what goes in, how the clock moves and which rows come out."""
