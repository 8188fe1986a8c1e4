-- expect: 2:5 unknown_setting
SET 'table.exec.sate.ttl' = '1 d';
