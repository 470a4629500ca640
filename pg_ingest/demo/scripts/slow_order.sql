-- The order whose transaction stays open: its key is older than those of orders that commit before it.
\set customer random(1, :customers)
begin;
insert into sales.orders (customer_id, total, note) values (:customer, 1.00, 'thought about it');
\sleep 3 s
end;
