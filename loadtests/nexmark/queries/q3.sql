-- Local item suggestion: who sells in category 10 in three states. A join without a bound in time.
SET 'table.exec.state.ttl' = '1 d';
CREATE TABLE answers (name STRING, city STRING, state STRING, id BIGINT) WITH ({sink});
INSERT INTO answers
SELECT P.name, P.city, P.state, A.id
FROM auction AS A INNER JOIN person AS P ON A.seller = P.id
WHERE A.category = 10 AND (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA');
