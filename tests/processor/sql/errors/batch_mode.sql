-- expect: 2:32 unsupported
SET 'execution.runtime-mode' = 'batch';
