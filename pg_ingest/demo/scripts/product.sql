-- Prices change.
\set id random(1, :products)
update sales.products set price = price * 1.01, changed_on = current_date
 where sku = 'P-' || lpad(:id::text, 8, '0');
