-- Visits begin, go on, move to another partition, and are forgotten.
\set id random(1, :visits)
\set moved random(1, :visits)
\set gone random(1, :visits)
insert into sales.visits (region) values ('north'), ('west');
update sales.visits set pages = pages + 1 where id = :id;
update sales.visits set region = case region when 'north' then 'south' else 'north' end where id = :moved;
delete from sales.visits where id = :gone;
