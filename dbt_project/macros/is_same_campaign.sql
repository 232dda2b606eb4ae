{# Whether a visit names the campaign of a message: by its name, its id or, as email
   tools write it into their links, as "Name (id)"; in any case of letters. #}
{% macro is_same_campaign(visit, message, name='campaign_name') -%}
    coalesce(
        lower({{ visit }}.campaign_id) = lower({{ message }}.campaign_id)
        or lower({{ visit }}.campaign_name) in (
            lower({{ message }}.{{ name }}),
            lower({{ message }}.campaign_id),
            lower({{ message }}.{{ name }})
            || ' (' || lower({{ message }}.campaign_id) || ')'
        ),
        false
    )
{%- endmacro %}
