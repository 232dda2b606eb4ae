{# One end, `low` or `high`, of Newcombe's hybrid score interval (1998, method 10) of
   the difference between a rate of `treated` and that of `control`. #}
{% macro difference_end(rate, end) -%}
    {%- set other, sign = ('high', '-') if end == 'low' else ('low', '+') -%}
    treated.{{ rate }} - control.{{ rate }} {{ sign }} sqrt(
        power(treated.{{ rate }} - treated.{{ rate }}_{{ end }}, 2)
        + power(control.{{ rate }} - control.{{ rate }}_{{ other }}, 2)
    )
{%- endmacro %}
