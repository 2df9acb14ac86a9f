<%inherit file="base.mako"/>
<h1>Hello, ${name}</h1>
<ul>
% for fruit in fruits:
<li>${fruit}</li>
% endfor
</ul>
