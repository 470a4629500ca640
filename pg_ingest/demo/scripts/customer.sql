-- Customers come, change, get another number, and go.
\set id random(1, :customers)
\set renumbered random(1, :customers)
\set gone random(1, :customers)
insert into sales.customers (name, segment, tags) values ('Ines Neu', 'household', array['new', null]);
update sales.customers
   set credit_limit = credit_limit + 0.01, preferences = preferences || '{"seen": true}', avatar = '\x00ff'
 where id = :id;
update sales.customers set id = nextval('sales.customers_id_seq') where id = :renumbered;
delete from sales.customers where id = :gone;
