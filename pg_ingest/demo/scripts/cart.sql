-- Carts are filled, changed, merged under a new number, and left behind.
\set customer random(1, :customers)
\set changed random(1, :carts)
\set noted random(1, :carts)
\set renumbered random(1, :carts)
\set gone random(1, :carts)
begin;
insert into sales.carts (customer_id, memo) values (:customer, repeat('new ', 1000));
savepoint second_thoughts;
insert into sales.carts (customer_id, memo) values (:customer, 'taken back');
rollback to second_thoughts;
insert into sales.carts (customer_id, memo) values (:customer, null);
update sales.carts set total = 5 where id = currval('sales.carts_id_seq');
end;
update sales.carts set total = total + 0.01, contents = contents || '"one more"', changed_at = now()
 where id = :changed;
update sales.carts set memo = repeat(md5(now()::text), 90), changed_at = now() where id = :noted;
update sales.carts set id = nextval('sales.carts_id_seq') where id = :renumbered;
delete from sales.carts where id = :gone;
