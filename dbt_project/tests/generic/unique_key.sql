{# Rows whose key, of one column or several, is not theirs alone or holds a null. #}
{% test unique_key(model, columns=none, column_name=none) %}
{%- set key = columns or [column_name] %}
select {{ key | join(', ') }}
from {{ model }}
group by {{ key | join(', ') }}
having
    count(*) > 1
    {%- for column in key %}
    or {{ column }} is null
    {%- endfor %}
{% endtest %}
