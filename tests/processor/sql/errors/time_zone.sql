-- expect: 2:31 unsupported
SET 'table.local-time-zone' = 'Europe/Berlin';
