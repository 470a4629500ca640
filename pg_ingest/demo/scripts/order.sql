-- A customer orders: one order and its lines in one transaction.
\set customer random(1, :customers)
\set lines random(1, 6)
\set sku random(1, :products)
begin;
with placed as (
    insert into sales.orders (customer_id, total, note)
    values (:customer, :lines * 19.99, case when :lines = 6 then 'big' end)
    returning id
)
insert into sales.order_items (order_id, line, sku, quantity, price)
select id, line, 'P-' || lpad(:sku::text, 8, '0'), line, 19.99
  from placed, generate_series(1, :lines) line;
end;
