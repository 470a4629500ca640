-- An order moves on, and one of its lines is corrected.
\set id random(1, :orders)
begin;
update sales.orders
   set status = case status when 'open' then 'paid' when 'paid' then 'shipped' else 'returned' end::sales.order_status,
       ship_date = current_date, updated_at = now()
 where id = :id;
update sales.order_items set quantity = quantity % 50 + 1, updated_at = now()
 where order_id = :id and line = 1;
end;
