-- expect: 2:5 syntax
SET pipeline.name = 'x';
